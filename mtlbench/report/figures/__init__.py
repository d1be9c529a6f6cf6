"""The drawings of the plots; means and intervals come with the frames, no statistics are computed here."""

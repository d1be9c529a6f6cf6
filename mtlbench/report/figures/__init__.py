"""The drawings of the plots. Means and intervals come with the frames; no statistics are computed here."""

"""What each plot draws; means and intervals come with the frames, no statistics are computed here."""

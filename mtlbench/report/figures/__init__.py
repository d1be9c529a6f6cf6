"""What each plot draws. No statistics here: means and intervals come with the frames."""

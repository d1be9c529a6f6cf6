"""What each plot draws, from data that already contain means and intervals."""

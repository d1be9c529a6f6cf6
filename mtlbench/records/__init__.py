"""What is asked of a bench and what it stores under results/, as validated records."""

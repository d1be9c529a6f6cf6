"""What a plug-in author writes against: strategies, setups, tasks, metrics and tuning spaces."""

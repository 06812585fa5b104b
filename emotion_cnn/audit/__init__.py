"""What is in a data folder: near-duplicates, findings, the report."""

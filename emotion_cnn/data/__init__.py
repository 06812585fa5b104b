"""What a network is fed."""

"""The page on one's own machine: what `--mode serve` opens."""

"""Training: recipes, augmentation, fitting, schedules, resuming."""

"""What everything else may use: errors, progress, paths, files, the computer, JSON that fits a schema."""

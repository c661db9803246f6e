"""What a finished run tells: results.json, tables, figures, and one page."""

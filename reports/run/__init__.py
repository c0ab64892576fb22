"""What one run says: its tables, notes, figures, items and page."""

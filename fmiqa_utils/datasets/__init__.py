"""Folders and CSV files become pairs tables; images are read and transformed here. No torch."""

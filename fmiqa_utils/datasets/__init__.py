"""Folders and CSV files become pairs tables; images are read and moved here. No torch."""

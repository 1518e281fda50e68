"""Notebooks run by papermill, what they conclude, and the page that binds them."""

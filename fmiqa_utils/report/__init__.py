"""Notebooks run by papermill, their findings, and the page that collects them."""

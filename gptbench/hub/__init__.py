"""Hugging Face's config.json: its fields, the families of models, and the reader of both."""

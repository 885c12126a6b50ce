"""Values into something to read: tables, sentences, frames, charts, a page. Nothing is measured."""

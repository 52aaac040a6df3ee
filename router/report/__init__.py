"""Results for people and for scripts: tables, JSON, pictures, a page."""

"""Pages, figures and tables: for a person after a sweep, and for a paper."""

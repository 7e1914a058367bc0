"""What a person looks at after a sweep, and what goes into a paper: a page, figures, tables."""

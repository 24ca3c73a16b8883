"""Reports: read records; write curves, tables, figures, image grids and HTML."""

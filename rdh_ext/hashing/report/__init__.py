"""Report folders: Markdown, figures, tables, codes. One small file per picture; ``folder`` writes them all."""

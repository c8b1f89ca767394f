"""An evaluation's rows, figures, tables and plots, for every stage that reports them."""

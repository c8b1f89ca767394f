"""An evaluation's rows, figures, tables and drawings, for every stage that reports them."""

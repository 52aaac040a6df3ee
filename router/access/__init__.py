"""Who may do what: keys, what their holders are entitled to, and how much they may use."""

"""The learned scheduler: an attention network over the graph whose scores of ready nodes make the order."""

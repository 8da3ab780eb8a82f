"""Other people's ways to choose an order, as functions that ``topoformer.schedule(graph, method=...)`` takes."""

"""The ways to choose an order; ``topoformer.SCHEDULERS`` names them."""

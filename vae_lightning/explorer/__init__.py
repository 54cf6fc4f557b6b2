"""A trained model as one page for a browser, which computes the model itself: its graphs, its weights, and what one does with them."""

"""A trained model as one page for a browser, which computes the model itself: graphs, weights, and what one does with them."""

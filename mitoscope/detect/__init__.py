"""An image of tissue → where its mitotic figures are."""

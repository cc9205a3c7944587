"""Makes very small models in every layout, and the tokens to expect of them."""

import os

# Progress bars of passes that do nothing would bury our own lines. They are asked for on import.
os.environ.setdefault("TQDM_DISABLE", "1")

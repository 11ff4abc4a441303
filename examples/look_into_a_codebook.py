"""Look into a codebook: what does a code stand for, and which slot knows what?

    python look_into_a_codebook.py [FOLDER] [KEY=VALUE ...]

FOLDER as in train_ada_sid.py; without it the same made-up shop (SIMULATED). Every `# %%` is a cell.
"""

# %% A tokenizer's SIDs, as exported (found, if train_ada_sid.py ran here before)
import json
from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load_file
from shop import data_and_overrides, run

folder, overrides = data_and_overrides()
method = ["data=tables", f"data.root={folder}", "tokenizer=ada_sid", *overrides]
shelf = Path("export") / folder.name
run("stage=export_sids", f"stage.to={shelf}", "stage.allow_moved=true", *method)
release = shelf / json.loads((shelf / "index.json").read_text())["latest"]
manifest = json.loads((release / "manifest.json").read_text())
sids = pl.concat([pl.read_parquet(release / shard["sids"]) for shard in manifest["shards"]])
items = pl.read_parquet(folder / "items.parquet").with_columns(pl.col("item_id").cast(pl.String))
table = sids.join(items, on="item_id", how="left", maintain_order="left")
codes, slots, pad = sids["codes"].to_numpy(), manifest["slots"], manifest["pad"]
kind = table["categories"].list.last().fill_null("?").to_numpy() if "categories" in table.columns else None

# %% How evenly are codes used?
print(f"\n{release}: {len(codes)} items, {len(slots)} slots")
print("slot  speaks of   in use   codes used   busiest code   effective codes")
for number, slot in enumerate(slots):
    used = codes[codes[:, number] != pad, number]
    share = np.bincount(used, minlength=slot["size"]) / max(1, len(used))
    effective = np.exp(-(share[share > 0] * np.log(share[share > 0])).sum())
    print(
        f"{number:4d}  {slot['modality']:10s}  {len(used) / len(codes):6.0%}   {(share > 0).sum():4d} of {slot['size']:<4d}"
        f"   {share.max():12.1%}   {effective:15.1f}"
    )

# %% What do the busiest codes of a slot stand for?
for number, slot in enumerate(slots):
    if "title" not in table.columns or slot["modality"] == slots[number - 1]["modality"] and number:
        continue  # the first slot of each group will do
    print(f"\nslot {number} ({slot['modality']})")
    column = codes[:, number]
    for code in np.argsort(-np.bincount(column[column != pad], minlength=slot["size"]))[:3]:
        titles = table["title"].to_numpy()[column == code]
        print(f"  code {code:3d}, {len(titles):3d} items: {' | '.join(map(str, titles[:4]))}")

# %% Which slot knows the category? Two items with the same code, and any two items, and how often they share it.
if kind is not None:
    print("\nslot  speaks of   same category, given the same code   any two items")
    for number, slot in enumerate(slots):
        used = codes[:, number] != pad
        pairs = (codes[used, None, number] == codes[None, used, number]) & ~np.eye(used.sum(), dtype=bool)
        same = kind[used, None] == kind[None, used]
        agree = same[pairs].mean() if pairs.any() else np.nan
        print(f"{number:4d}  {slot['modality']:10s}  {agree:35.0%}   {same.mean():13.0%}")

# %% Codewords themselves: how many directions of the space do they take? (1: a line, up to the width: all alike)
weights = load_file(run("stage=tokenize", *method) / "model.safetensors")
words = next(value for name, value in weights.items() if name.startswith("codebook.") and value.ndim == 3)
print("\nslot  directions that 90 % of the codewords' spread takes, of", words.shape[2])
for number, book in enumerate(words):
    spread = np.linalg.svd(book - book.mean(0), compute_uv=False) ** 2
    print(f"{number:4d}  {int(np.searchsorted(spread.cumsum() / spread.sum(), 0.9)) + 1:3d}")

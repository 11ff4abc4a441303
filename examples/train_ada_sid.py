"""Train ADA-SID on your own Parquet and ship the SIDs.

    python train_ada_sid.py [FOLDER] [KEY=VALUE ...]

FOLDER holds `items.parquet`, `interactions.parquet` and, if you have them, `<modality>.npy` (docs/data.md). Without it
a small shop is made up: SIMULATED data, seconds of training. Opens as a notebook too: every `# %%` is a cell.
"""

# %% Your data, or a made-up shop
import json
from pathlib import Path

import polars as pl
from shop import data_and_overrides, run

folder, overrides = data_and_overrides()
method = ["data=tables", f"data.root={folder}", "tokenizer=ada_sid", *overrides]

# %% Train. What is missing on the way is made: embeddings of texts, behavior embeddings, the tokenizer, the SIDs.
# The same as `python -m adasid_exp stage=assign data=tables data.root=FOLDER tokenizer=ada_sid`; a second run finds it.
sids = run("stage=assign", *method)

# %% Are they good?
figures = json.loads((sids / "metrics.json").read_text())
print(f"\nSIDs of {pl.read_parquet(sids / 'sids.parquet').height} items")
print(f"  share a SID with another item   {figures['collision_rate']:6.1%}")
print(f"  codes in use                    {figures['utilization']:6.1%}")
print(
    f"  error of the decoded text       {figures.get('recon_mse_text', figures['recon_mse']):6.2f}   (the mean's is 1)"
)

# %% ADA-SID's own claim: behavior slots are for items whose behavior says something
print("\nbehavior slots in use, by popularity:")
for tenth in range(1, 11):
    slots = figures[f"decile{tenth}/active_behavior_slots"]
    print(
        f"  tenth {tenth:2d}, {figures[f'decile{tenth}/count']:6.1f} interactions   {slots:4.1f} {'#' * round(6 * slots)}"
    )

# %% Ship them: Parquet, inverse map and manifest, as a version that will never change (docs/export.md). Published SIDs
# may not move from one version to the next; you are trying things out here, so they may.
shelf = Path("export") / folder.name
run("stage=export_sids", f"stage.to={shelf}", "stage.allow_moved=true", *method)
latest = shelf / json.loads((shelf / "index.json").read_text())["latest"]
print(f"\n{latest}:")
print(pl.read_parquet(latest / "sids.parquet").head(5))

"""Use exported SIDs in a ranker of your own: plain torch, no Lightning, no adasid_exp behind the first cell.

    python sids_in_your_ranker.py [FOLDER] [KEY=VALUE ...]

Will the user like the item? Three rankers, equal but for how they see an item: a row of its own (id), the sum of its
SID's codewords (SID), both. FOLDER as in train_ada_sid.py, with a column `liked`; without it the made-up shop (SIMULATED).
Every `# %%` is a cell.
"""

# %% SIDs. task=ranking: they have seen nothing of the last fifth of the log, in which the rankers are chosen and tested.
import json
from pathlib import Path

import numpy as np
import polars as pl
import torch
from shop import data_and_overrides, run
from torch import nn

folder, overrides = data_and_overrides()
method = ["task=ranking", "data=tables", f"data.root={folder}", "tokenizer=ada_sid", *overrides]
shelf = Path("export") / f"{folder.name}-ranking"
run("stage=export_sids", f"stage.to={shelf}", "stage.allow_moved=true", *method)

# %% From here on: Parquet and torch
release = shelf / json.loads((shelf / "index.json").read_text())["latest"]
manifest = json.loads((release / "manifest.json").read_text())
sids = pl.concat([pl.read_parquet(release / shard["sids"]) for shard in manifest["shards"]])
codes = torch.from_numpy(sids["codes"].to_numpy().astype(np.int64))
weights = torch.from_numpy(sids["weights"].to_numpy().copy())
sizes = torch.tensor([slot["size"] for slot in manifest["slots"]])

# %% Impressions in the order of time: the first 81 % to learn from, the last 10 % to test on, as the SIDs' own split
log = pl.read_parquet(folder / "interactions.parquet").with_columns(pl.col("item_id", "user_id").cast(pl.String))
log = log.drop_nulls("liked").sort("timestamp", maintain_order=True)
index = log.join(sids.select("item_id").with_row_index("item"), on="item_id", maintain_order="left")
user = torch.from_numpy(index["user_id"].rank("dense").to_numpy().astype(np.int64) - 1)
item = torch.from_numpy(index["item"].to_numpy().astype(np.int64))
liked = torch.from_numpy(index["liked"].to_numpy().astype(np.float32))
learn, test = slice(0, int(0.81 * len(liked))), slice(int(0.9 * len(liked)), None)
seen = torch.bincount(item[learn], minlength=len(codes))
rare = seen[item[test]] <= seen[item[test]].float().quantile(0.25)


# %% Items as the ranker sees them
class Id(nn.Module):
    """A row an item."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rows = nn.Embedding(len(codes), dim)
        nn.init.normal_(self.rows.weight, std=0.05)

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        return self.rows(item)


class Sid(nn.Module):
    """The weighted sum of the codes' rows; one table, slots one after the other. An unused slot has weight 0."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.rows = nn.EmbeddingBag(int(sizes.sum()), dim, mode="sum")
        nn.init.normal_(self.rows.weight, std=0.05)
        self.register_buffer("flat", codes.clamp(min=0) + sizes.cumsum(0) - sizes)
        self.register_buffer("weight", weights)

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        return self.rows(self.flat[item], per_sample_weights=self.weight[item])


class Both(nn.Module):
    """Their sum."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.id, self.sid = Id(dim), Sid(dim)

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        return self.id(item) + self.sid(item)


class Ranker(nn.Module):
    """A user's row against the item's vector, and a little network on both."""

    def __init__(self, items: nn.Module, dim: int) -> None:
        super().__init__()
        self.items, self.users = items, nn.Embedding(int(user.max()) + 1, dim)
        nn.init.normal_(self.users.weight, std=0.05)
        self.tower = nn.Sequential(nn.Linear(3 * dim, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        left, right = self.users(user), self.items(item)
        return self.tower(torch.cat([left, right, left * right], 1)).squeeze(1) + (left * right).sum(1)


# %% Train and measure
def auc(score: torch.Tensor, label: torch.Tensor) -> float:
    """How often a liked impression stands above one that is not; half for ties."""
    good, bad = score[label == 1], score[label == 0]
    bad = bad.sort().values
    below, through = torch.searchsorted(bad, good), torch.searchsorted(bad, good, right=True)
    return float((below + through).double().mean() / 2 / len(bad))


def trained(kind: type[nn.Module], seed: int, dim: int = 16, epochs: int = 8) -> torch.Tensor:
    """Scores of the test part."""
    torch.manual_seed(seed)
    model = Ranker(kind(dim), dim)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(learn.stop).split(256):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(user[rows], item[rows]), liked[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return model.eval()(user[test], item[test])


torch.set_num_threads(1)
print(f"\n{learn.stop} impressions to learn from, {len(liked[test])} to test on; AUC, mean and std of five seeds")
print("item as   all               rarest quarter")
for name, kind in {"id": Id, "SID": Sid, "both": Both}.items():
    scores = [trained(kind, seed) for seed in range(5)]
    whole = [auc(score, liked[test]) for score in scores]
    few = [auc(score[rare], liked[test][rare]) for score in scores]
    print(f"{name:8s}  {np.mean(whole):.3f} +- {np.std(whole):.3f}    {np.mean(few):.3f} +- {np.std(few):.3f}")

import itertools

import pytest
import torch
from scipy.spatial import cKDTree

from tests.typecheck import value_error
from ziggurat.shapes import ball_query, farthest_point_sample, interpolate3, knn
from ziggurat.shapes.pointnet2 import (
    Cloud,
    FeaturePropagation,
    InputCloud,
    PointNet2,
    PointNet2Segmentation,
    SetAbstraction,
    SharedMLP,
    pointnet,
    pointnet2_mrg,
    pointnet2_msg,
    pointnet2_ssg,
)

LEVELS = ((24, ((0.5, 8, (8, 12)),)), (8, ((0.8, 8, (12, 16)), (1.2, 12, (12, 16)))), (0, ((0.0, 0, (16, 24)),)))


def cloud(b=2, n=60, seed=0):
    return torch.randn(b, n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) / 2


def network(**options):
    torch.manual_seed(0)
    return PointNet2(5, LEVELS, head=(16, 8), **options).double().eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.fact("pointnet2", 1)
def test_counts_of_single_scale_grouping():
    with torch.device("meta"):
        assert count(pointnet2_ssg(40)) == 1_475_688
        assert count(pointnet2_ssg(40, bias=False)) == 1_472_360


@pytest.mark.fact("pointnet2", 2)
def test_counts_of_multi_scale_grouping():
    with torch.device("meta"):
        assert count(pointnet2_msg(40)) == 1_747_368
        assert count(pointnet2_msg(40, bias=False)) == 1_742_856


@pytest.mark.fact("pointnet2", 3)
def test_order_and_place_of_the_cloud_do_not_matter():
    points = cloud()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    mrg = PointNet2(
        5, (LEVELS[0], (8, (0.8, 8, (12, 16)), (0.8, 16, (8, 8))), LEVELS[2]), head=(8,)
    ).double().eval()  # fmt: skip
    for net in (network(), mrg):
        want = net(points)
        torch.testing.assert_close(net(points[:, order]), want)
        torch.testing.assert_close(net(points + torch.tensor([3.0, -2, 1], dtype=torch.float64)), want)
        assert (net(1.5 * points) - want).abs().max() > 1e-4


@pytest.mark.fact("pointnet2", 4)
def test_one_group_of_all_points_is_pointnet():
    torch.manual_seed(0)
    level = SetAbstraction(0, 0, [(0.0, 0, (8, 16))]).double().eval()
    points = cloud()
    x = points - points.mean(1, keepdim=True)
    mlp = SharedMLP(3, (8, 16)).double().eval()
    mlp.load_state_dict(level.mlps[0].state_dict())
    want = torch.stack([torch.stack([mlp(p[None])[0] for p in one]).amax(0) for one in x])
    torch.testing.assert_close(level(InputCloud()(points)).x[:, 0], want)
    assert pointnet(3).channels == (1024,)


@pytest.mark.fact("pointnet2", 5)
def test_farthest_points_cover_at_most_twice_the_best_radius():
    for seed in range(5):
        points = cloud(1, 11, seed)
        apart = torch.cdist(points[0], points[0])
        for k in range(1, 5):
            chosen = farthest_point_sample(points, k)[0]
            radius = float(apart[:, chosen].amin(1).max())
            best = min(float(apart[:, list(c)].amin(1).max()) for c in itertools.combinations(range(11), k))
            assert radius <= 2 * best + 1e-9
    points = cloud(2, 50)
    chosen = farthest_point_sample(points, 20)
    for b in range(2):
        picked = points[b, chosen[b]]
        steps = [float(torch.cdist(picked[i : i + 1], picked[:i]).min()) for i in range(1, 20)]
        assert all(a >= c - 1e-12 for a, c in itertools.pairwise(steps))
        assert len(set(chosen[b].tolist())) == 20


@pytest.mark.fact("pointnet2", 6)
def test_interpolation_at_a_coarse_point_is_its_feature():
    coarse, features = cloud(2, 10), torch.randn(2, 10, 4, dtype=torch.float64)
    torch.testing.assert_close(interpolate3(coarse, features, coarse, eps=1e-14), features, atol=1e-8, rtol=1e-8)
    points = cloud(2, 7, 3)
    got = interpolate3(coarse, features, points)
    for b, i in itertools.product(range(2), range(7)):
        d2 = (coarse[b] - points[b, i]).square().sum(1)
        near = d2.argsort()[:3]
        w = 1 / (d2[near] + 1e-8)
        torch.testing.assert_close(got[b, i], (features[b, near] * w[:, None]).sum(0) / w.sum())


def test_neighbourhoods_against_a_tree():
    points, centres = cloud(2, 80), cloud(2, 9, 5)
    index, apart = knn(points, centres, 6)
    ball = ball_query(points, centres, 0.5, 6)
    for b in range(2):
        tree = cKDTree(points[b].numpy())
        distance, want = tree.query(centres[b].numpy(), 6)
        assert (index[b].numpy() == want).all()
        torch.testing.assert_close(apart[b], torch.from_numpy(distance) ** 2)
        for c in range(9):
            inside = [i for i, d in zip(want[c], distance[c], strict=True) if d <= 0.5]
            expected = inside + [want[c][0]] * (6 - len(inside))
            assert ball[b, c].tolist() == expected


def test_levels_down_and_up():
    net = network()
    clouds = net.clouds(cloud())
    assert [tuple(c.x.shape) for c in clouds] == [(2, 24, 12), (2, 8, 32), (2, 1, 24)]
    assert [tuple(c.points.shape) for c in clouds] == [(2, 24, 3), (2, 8, 3), (2, 1, 3)]
    assert pointnet2_mrg(4).channels == (128, 384, 1280)
    up = FeaturePropagation(32, 12, (10,)).double().eval()
    assert up(clouds[1], clouds[0]).x.shape == (2, 24, 10)
    torch.manual_seed(0)
    segment = PointNet2Segmentation(4, LEVELS[:2], 2, ((8,), (8, 6))).double().eval()
    points, features = cloud(), torch.randn(2, 60, 2, dtype=torch.float64)
    order = torch.randperm(60)
    torch.testing.assert_close(segment(points[:, order], features[:, order]), segment(points, features)[:, order])
    assert segment(points, features).shape == (2, 60, 4)


def test_random_input_dropout():
    torch.manual_seed(0)
    stem, points = InputCloud(0.95), cloud(200, 100)
    dropped = stem.train()(points).points
    gone = (dropped == points[:, :1]).all(2).float().mean(1)
    assert dropped.shape == points.shape and float(gone.mean()) == pytest.approx(0.95 / 2, abs=0.06)
    assert float(gone.max()) > 0.8 and float(gone.min()) < 0.1
    assert torch.equal(stem.eval()(points).points, points)


def test_against_torch_geometric():
    from torch_geometric.nn import PointNetConv

    torch.manual_seed(0)
    points, x = cloud(1, 30), torch.randn(1, 30, 2, dtype=torch.float64)
    level = SetAbstraction(2, 6, [(0.6, 30, (8,))]).double().eval()
    got = level(Cloud(x, points, points))
    inside = torch.cdist(got.points[0], points[0]) <= 0.6
    centre, point = inside.nonzero().T

    class Swapped(torch.nn.Module):
        def forward(self, rows):  # theirs has features first, then coordinates
            return level.mlps[0](torch.cat([rows[:, 2:], rows[:, :2]], 1))

    conv = PointNetConv(Swapped(), add_self_loops=False)
    want = conv((x[0], None), (points[0], got.points[0]), torch.stack([point, centre]))
    torch.testing.assert_close(got.x[0], want)


def test_mistakes_are_named():
    with value_error("points must be"):
        network()(torch.zeros(2, 5, 4))
    with value_error("count must be between 1 and the 60"):
        farthest_point_sample(cloud(), 61)
    with value_error("k must be between"):
        knn(cloud(), cloud(), 0)
    with value_error("drop must be"):
        InputCloud(1.0)
    with value_error("a level needs"):
        SetAbstraction(0, 4, [])

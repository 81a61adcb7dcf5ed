//! Things in a row that must not overlap: nodes of a rank, labels at the ends of lines.

/// The places nearest to `wanted` (place, weight) that are at least `apart` and lie within `ends`: pools of neighbours
/// that would overlap move as one (isotonic regression). Where there is no room, all distances shrink alike.
pub fn least_squares(wanted: &[(f64, f64)], apart: &[f64], ends: [f64; 2]) -> Vec<f64> {
    let length: f64 = apart.iter().sum();
    let shrink = if length > 0.0 { ((ends[1] - ends[0]) / length).clamp(0.0, 1.0) } else { 1.0 };
    let mut offsets = vec![0.0];
    for step in apart {
        offsets.push(offsets[offsets.len() - 1] + step * shrink);
    }
    // weighted sum, weight, members
    let mut pools: Vec<(f64, f64, usize)> = Vec::new();
    for ((place, weight), offset) in wanted.iter().zip(&offsets) {
        let mut pool = ((place - offset) * weight, *weight, 1);
        while let Some(last) = pools.last().filter(|last| last.0 / last.1 > pool.0 / pool.1) {
            pool = (pool.0 + last.0, pool.1 + last.1, pool.2 + last.2);
            pools.pop();
        }
        pools.push(pool);
    }
    let highest = (ends[1] - length * shrink).max(ends[0]);
    let free = pools.iter().flat_map(|(sum, weight, n)| std::iter::repeat_n((sum / weight).clamp(ends[0], highest), *n));
    free.zip(&offsets).map(|(place, offset)| place + offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_shrinks_distances() {
        let crowded = least_squares(&[(0.0, 1.0), (0.0, 1.0), (0.0, 1.0)], &[10.0, 10.0], [0.0, 10.0]);
        assert_eq!(crowded, [0.0, 5.0, 10.0]);
        assert_eq!(least_squares(&[(4.0, 1.0), (4.0, 1.0)], &[2.0], [0.0, 10.0]), [3.0, 5.0]);
        assert!(least_squares(&[], &[], [0.0, 1.0]).is_empty());
    }
}

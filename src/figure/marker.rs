//! Shapes of points, so that groups differ by more than colour.

use crate::figure::color::Color;
use crate::figure::scene::{Fill, Item};

/// The shape of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marker {
    /// A circle.
    #[default]
    Dot,
    /// A square.
    Square,
    /// A triangle that points up.
    Up,
    /// A square on its corner.
    Diamond,
    /// A triangle that points down.
    Down,
}

impl Marker {
    /// The shape of the `k`th group.
    pub fn of(k: usize) -> Marker {
        [Marker::Dot, Marker::Square, Marker::Up, Marker::Diamond, Marker::Down][k % 5]
    }

    /// Its corners about its middle, of about the area of a dot of radius `r`; none for the dot itself.
    pub fn corners(self, r: f64) -> Option<Vec<[f64; 2]>> {
        let (side, high) = (0.886 * r, 1.25 * r); // half a square's side, a diamond's half diagonal
        let (wide, up, down) = (1.35 * r, 1.45 * r, 0.85 * r);
        Some(match self {
            Marker::Dot => return None,
            Marker::Square => vec![[-side, -side], [side, -side], [side, side], [-side, side]],
            Marker::Up => vec![[0.0, -up], [wide, down], [-wide, down]],
            Marker::Diamond => vec![[0.0, -high], [high, 0.0], [0.0, high], [-high, 0.0]],
            Marker::Down => vec![[0.0, up], [-wide, -down], [wide, -down]],
        })
    }

    /// The shape about a point.
    pub fn item(self, at: [f64; 2], r: f64, color: Color) -> Item {
        let (fill, stroke) = (Fill::Solid(color), None);
        match self.corners(r) {
            None => Item::Circle { at, r, fill, stroke },
            Some(corners) => {
                let points = corners.iter().map(|[dx, dy]| [at[0] + dx, at[1] + dy]).collect();
                Item::Path { points, closed: true, fill, stroke }
            }
        }
    }
}

//! Colours as colour-blind readers see them.
//!
//! Dichromatic vision is simulated by the matrices of Machado, Oliveira and Fernandes (2009) at severity 1, in linear RGB.
//! Differences are CIEDE2000 (Sharma, Wu and Dalal 2005); two colours count as told apart from 10 on, the distance at
//! which Brychtová and Çöltekin (2017) found readers of maps to be sure of them. That number was chosen before the first run.

use glassbox::figure::color::{CATEGORICAL, Color, Map};

const APART: f64 = 10.0;

/// How colours are seen: a name, and rows of the matrix on linear RGB.
const EYES: [(&str, [[f64; 3]; 3]); 4] = [
    ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    (
        "protanopia",
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    ),
    (
        "deuteranopia",
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ),
    (
        "tritanopia",
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ),
];

/// CIE L*a*b* (D65) of a colour as these eyes see it.
fn lab(color: Color, eyes: &[[f64; 3]; 3]) -> [f64; 3] {
    let linear = [color.r, color.g, color.b].map(|v| {
        let v = f64::from(v) / 255.0;
        if v <= 0.04045 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
    });
    let times =
        |rows: &[[f64; 3]; 3], v: [f64; 3]| rows.map(|row| (0..3).map(|i| row[i] * v[i]).sum::<f64>());
    let seen = times(eyes, linear).map(|v| v.clamp(0.0, 1.0));
    let to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ];
    let [x, y, z] = times(&to_xyz, seen);
    let f = |t: f64| if t > 216.0 / 24389.0 { t.cbrt() } else { (24389.0 / 27.0 * t + 16.0) / 116.0 };
    let (x, y, z) = (f(x / 0.95047), f(y), f(z / 1.08883));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// CIEDE2000.
fn difference([l1, a1, b1]: [f64; 3], [l2, a2, b2]: [f64; 3]) -> f64 {
    let far = |chroma: f64| (chroma.powi(7) / (chroma.powi(7) + 25f64.powi(7))).sqrt();
    let g = 0.5 * (1.0 - far((a1.hypot(b1) + a2.hypot(b2)) / 2.0));
    let (a1, a2) = (a1 * (1.0 + g), a2 * (1.0 + g));
    let (c1, c2) = (a1.hypot(b1), a2.hypot(b2));
    let hue = |a: f64, b: f64| b.atan2(a).to_degrees().rem_euclid(360.0);
    let (h1, h2) = (hue(a1, b1), hue(a2, b2));
    let grey = c1 * c2 == 0.0;
    let turn = if grey { 0.0 } else { (h2 - h1 + 180.0).rem_euclid(360.0) - 180.0 };
    let (dl, dc, dh) = (l2 - l1, c2 - c1, 2.0 * (c1 * c2).sqrt() * (turn / 2.0).to_radians().sin());
    let (l, c) = ((l1 + l2) / 2.0, (c1 + c2) / 2.0);
    let h = if grey { h1 + h2 } else { (h1 + turn / 2.0).rem_euclid(360.0) };
    let cos = |degrees: f64| degrees.to_radians().cos();
    let t = 1.0 - 0.17 * cos(h - 30.0) + 0.24 * cos(2.0 * h) + 0.32 * cos(3.0 * h + 6.0)
        - 0.2 * cos(4.0 * h - 63.0);
    let sl = 1.0 + 0.015 * (l - 50.0).powi(2) / (20.0 + (l - 50.0).powi(2)).sqrt();
    let (sc, sh) = (1.0 + 0.045 * c, 1.0 + 0.015 * c * t);
    let rotation = -(60.0 * (-((h - 275.0) / 25.0).powi(2)).exp()).to_radians().sin() * 2.0 * far(c);
    let (l, c, h) = (dl / sl, dc / sc, dh / sh);
    (l * l + c * c + h * h + rotation * c * h).sqrt()
}

fn apart(a: Color, b: Color, what: &str) {
    for (name, eyes) in &EYES {
        let far = difference(lab(a, eyes), lab(b, eyes));
        assert!(far >= APART, "{what}: {a:?} and {b:?} are {far:.1} apart with {name}");
    }
}

#[test]
fn the_difference_is_the_published_one() {
    // Sharma, Wu and Dalal (2005), table 1: pairs 1, 7, 17 and 25.
    for (a, b, expected) in [
        ([50.0, 2.6772, -79.7751], [50.0, 0.0, -82.7485], 2.0425),
        ([50.0, 0.0, 0.0], [50.0, -1.0, 2.0], 2.3669),
        ([50.0, 2.5, 0.0], [73.0, 25.0, -18.0], 27.1492),
        ([60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387], 1.2644),
    ] {
        assert!((difference(a, b) - expected).abs() < 1e-4, "{}", difference(a, b));
    }
}

#[test]
fn every_reader_tells_categories_apart() {
    for (i, a) in CATEGORICAL.iter().enumerate() {
        for b in &CATEGORICAL[i + 1..] {
            apart(*a, *b, "categories");
        }
    }
}

#[test]
fn every_reader_can_read_every_map() {
    let lightness = |map: Map, i: u32| lab(map.at(f64::from(i) / 200.0), &EYES[0].1)[0];
    for map in Map::ALL {
        let rises =
            |part: std::ops::Range<u32>| part.clone().all(|i| lightness(map, i) <= lightness(map, i + 1));
        let falls =
            |part: std::ops::Range<u32>| part.clone().all(|i| lightness(map, i) >= lightness(map, i + 1));
        if map.positive().is_some() {
            apart(map.at(0.0), map.at(1.0), "ends");
            apart(map.at(0.25), map.at(0.75), "quarters");
            assert!(rises(0..100) && falls(100..200), "{map:?} is not monotone in grey on each side");
        } else {
            for step in 0..4 {
                apart(map.at(f64::from(step) / 4.0), map.at(f64::from(step + 1) / 4.0), "steps");
            }
            assert!(rises(0..200) || falls(0..200), "{map:?} is not monotone in grey");
        }
    }
}

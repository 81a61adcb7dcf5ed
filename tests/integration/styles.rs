//! Every style of model: what the families of `family/` are made of, each by itself, and much of it at once.

use glassbox::model::{
    Activation, Config, Layer, MlpKind, NormKind, NormPlaces, PositionKind, QkNorm, Rotary, RotaryScaling,
    Routing, Slopes, Wiring,
};
use glassbox::ops::Pairs;

/// Every style, with its name.
pub fn all() -> Vec<(&'static str, Config)> {
    let rotary = |dims, scaling| {
        let rotary = Some(Rotary { base: 50.0, dims, pairs: Pairs::Halves, scaling });
        Config { layers: vec![Layer { rotary, ..Layer::plain(4) }], ..Config::tiny_rotary() }
    };
    let experts = |config: Config, per_token, renormalised| Config {
        experts: Some(Routing { experts: 4, per_token, renormalised, d_expert: 12 }),
        ..config
    };
    vec![
        ("tiny", Config::tiny()),
        ("rotary", Config::tiny_rotary()),
        ("one token of context", Config { n_ctx: 1, ..Config::tiny() }),
        ("two tokens of context", Config { n_ctx: 2, ..Config::tiny_rotary() }),
        ("two words", Config { d_vocab: 2, ..Config::tiny() }),
        ("looks both ways", Config { causal: false, ..Config::tiny() }),
        ("one layer, one head", Config { n_layers: 1, n_heads: 1, n_kv_heads: 1, ..Config::tiny_rotary() }),
        ("one key-value head", Config { n_kv_heads: 1, ..Config::tiny() }),
        ("relu", Config { activation: Activation::Relu, ..Config::tiny() }),
        ("part rotary", rotary(2, RotaryScaling::Linear { factor: 2.0 })),
        ("a base by length", rotary(4, RotaryScaling::Dynamic { factor: 2.0, original: 4.0 })),
        (
            "yarn",
            rotary(
                4,
                RotaryScaling::Yarn { factor: 4.0, low: 0.2, high: 1.5, original: 8.0, magnitude: 1.2 },
            ),
        ),
        ("divisors by length", {
            let (short, long) = (vec![1.0, 1.5], vec![2.0, 3.0]);
            rotary(
                4,
                RotaryScaling::Long { short: short.into(), long: long.into(), original: 4.0, magnitude: 1.1 },
            )
        }),
        ("adjacent pairs", {
            let mut config = rotary(2, RotaryScaling::None);
            config.layers[0].rotary.as_mut().unwrap().pairs = Pairs::Adjacent;
            config
        }),
        ("every other layer rotary", {
            let mut config = Config::tiny_rotary();
            config.layers.push(Layer::plain(4));
            config
        }),
        ("distance biases", {
            let slopes = Some(Slopes::new(4));
            let layers = vec![Layer { slopes, ..Layer::plain(4) }];
            Config { positions: PositionKind::None, layers, ..Config::tiny() }
        }),
        ("rounded distance biases", {
            let slopes = Some(Slopes { rounded: true, factor: 0.5, ..Slopes::new(4) });
            Config { layers: vec![Layer { slopes, ..Layer::plain(4) }], ..Config::tiny() }
        }),
        ("positions in queries and keys", Config { positions: PositionKind::Shortformer, ..Config::tiny() }),
        ("windows in every other layer", {
            let windowed = Layer { window: Some(2), ..Layer::plain(4) };
            Config { layers: vec![windowed, Layer::plain(4)], ..Config::tiny() }
        }),
        ("parallel", Config { wiring: Wiring::Parallel, ..Config::tiny() }),
        ("parallel, attention only", {
            Config { wiring: Wiring::Parallel, mlp: MlpKind::Absent, ..Config::tiny() }
        }),
        ("attention only", Config { mlp: MlpKind::Absent, ..Config::tiny() }),
        ("no norm", Config { norm: NormKind::None, norm_bias: false, ..Config::tiny() }),
        ("no gain, no final norm", Config { norm_gain: false, final_norm: false, ..Config::tiny() }),
        ("norms behind", Config { norm_places: NormPlaces::After, ..Config::tiny_rotary() }),
        ("norms around", Config { norm_places: NormPlaces::Around, ..Config::tiny_rotary() }),
        ("LayerNorms around", Config { norm_places: NormPlaces::Around, ..Config::tiny() }),
        ("norms of heads", Config { qk_norm: QkNorm::Head, ..Config::tiny_rotary() }),
        ("norms of each head", Config { qk_norm: QkNorm::EachHead, ..Config::tiny() }),
        ("norms of all heads", Config { qk_norm: QkNorm::Whole, ..Config::tiny_rotary() }),
        ("caps", Config { score_cap: Some(1.5), logit_cap: Some(3.0), ..Config::tiny_rotary() }),
        ("clip", Config { qkv_clip: Some(1.5), ..Config::tiny() }),
        ("sinks", Config { sinks: true, ..Config::tiny() }),
        ("solu with a norm", Config { activation: Activation::Solu, mlp_norm: true, ..Config::tiny() }),
        ("squared relu", Config { activation: Activation::ReluSquared, ..Config::tiny() }),
        ("experts", experts(Config::tiny_rotary(), 2, true)),
        ("experts among all", experts(Config { norm_bias: true, ..Config::tiny_rotary() }, 3, false)),
        ("plain experts in one layer", {
            let mut config = experts(Config::tiny(), 1, false);
            config.layers = vec![Layer { experts: false, ..Layer::plain(4) }, Layer::plain(4)];
            config
        }),
        ("bounded gates", {
            let activation = Activation::QuickGelu;
            experts(Config { mlp_limit: Some(0.8), activation, ..Config::tiny_rotary() }, 2, true)
        }),
        ("an output vocabulary of its own", Config { d_vocab_out: 5, ..Config::tiny() }),
        ("much at once", {
            let rotary = rotary(4, RotaryScaling::None).layers[0].rotary.clone();
            let windowed = Layer { window: Some(3), rotary, ..Layer::plain(4) };
            let plain = Layer { slopes: Some(Slopes::new(4)), experts: false, ..Layer::plain(4) };
            Config {
                wiring: Wiring::Parallel,
                norm_places: NormPlaces::Around,
                qk_norm: QkNorm::Head,
                layers: vec![windowed, plain],
                sinks: true,
                score_cap: Some(2.0),
                logit_cap: Some(2.0),
                d_vocab_out: 30,
                n_kv_heads: 2,
                ..experts(Config::tiny(), 2, true)
            }
        }),
        (
            "attention only, norms around, positions in queries and keys",
            Config {
                mlp: MlpKind::Absent,
                norm_places: NormPlaces::Around,
                positions: PositionKind::Shortformer,
                ..Config::tiny()
            },
        ),
    ]
}

/// Those that can read the prompts of nine of 24 tokens that most tests use.
pub fn able() -> impl Iterator<Item = (&'static str, Config)> {
    all().into_iter().filter(|(_, config)| config.n_ctx >= 9 && config.d_vocab >= 24)
}

/// Those in which analyses have something of their own to get wrong.
pub fn peculiar() -> impl Iterator<Item = (&'static str, Config)> {
    const NAMES: [&str; 15] = [
        "looks both ways",
        "a base by length",
        "distance biases",
        "positions in queries and keys",
        "windows in every other layer",
        "parallel",
        "attention only",
        "no norm",
        "norms behind",
        "LayerNorms around",
        "caps",
        "sinks",
        "plain experts in one layer",
        "an output vocabulary of its own",
        "much at once",
    ];
    let found: Vec<_> = able().filter(|(name, _)| NAMES.contains(name)).collect();
    assert_eq!(found.len(), NAMES.len(), "a name is no style's");
    found.into_iter()
}

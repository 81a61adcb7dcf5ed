//! Every operation's gradient against finite differences, and the traps of the library beneath.

use candle_core::{DType, Device, Result, Tensor, Var};
use glassbox::ops;

/// Numbers that look random and are the same on every machine.
fn noise(shape: &[usize], salt: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|i| ((i as f64 + salt) * 12.9898).sin() * 1.7).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// d Σ w·f(x) / dx by back-propagation and by central differences.
fn check(name: &str, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&tracked).unwrap();
    let weights = noise(y.dims(), 0.37);
    let score = |xs: &[Tensor]| -> f64 {
        let y = f(xs).unwrap();
        (y * &weights).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let grads = (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    for (k, var) in vars.iter().enumerate() {
        let grad: Vec<f64> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let x: Vec<f64> = inputs[k].flatten_all().unwrap().to_vec1().unwrap();
        for i in 0..x.len() {
            let moved = |h: f64| {
                let mut x = x.clone();
                x[i] += h;
                let mut xs = inputs.to_vec();
                xs[k] = Tensor::from_vec(x, inputs[k].dims(), &Device::Cpu).unwrap();
                score(&xs)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let error = (slope - grad[i]).abs() / slope.abs().max(grad[i].abs()).max(1.0);
            assert!(
                error < 1e-7,
                "{name}: input {k}, entry {i}: {slope} by differences, {} by backward",
                grad[i]
            );
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let x = noise(&[2, 3, 5], 0.5); // no entry at 0, where relu has a kink
    check("center", std::slice::from_ref(&x), |x| ops::center(&x[0]));
    check("rms", std::slice::from_ref(&x), |x| ops::rms(&x[0], 1e-3));
    check("divide", &[x.clone(), noise(&[2, 3, 1], 9.0).abs().unwrap()], |x| ops::divide(&x[0], &x[1]));
    check("scale_rows", &[x.clone(), noise(&[5], 3.0)], |x| ops::scale_rows(&x[0], &x[1]));
    check("shift_rows", &[x.clone(), noise(&[5], 3.0)], |x| ops::shift_rows(&x[0], &x[1]));
    check("add", &[x.clone(), noise(&[2, 3, 5], 4.0)], |x| ops::add(&x[0], &x[1]));
    let norms = [x.clone(), noise(&[5], 3.0), noise(&[5], 6.0)];
    check("layer_norm", &norms, |x| ops::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-3));
    check("rms_norm", &norms[..2], |x| ops::rms_norm(&x[0], &x[1], None, 1e-3));
    check("gelu_tanh", std::slice::from_ref(&x), |x| ops::gelu_tanh(&x[0]));
    check("gelu", std::slice::from_ref(&x), |x| ops::gelu(&x[0]));
    check("silu", std::slice::from_ref(&x), |x| ops::silu(&x[0]));
    for act in [ops::Gate::GeluTanh, ops::Gate::Gelu, ops::Gate::Silu, ops::Gate::QuickGelu] {
        check("gated", &[x.clone(), noise(&[2, 3, 5], 4.0)], |x| ops::gated(&x[0], &x[1], act));
    }
    check("relu", std::slice::from_ref(&x), |x| ops::relu(&x[0]));
    check("softmax", std::slice::from_ref(&x), |x| ops::softmax(&x[0]));
    check("log_softmax", std::slice::from_ref(&x), |x| ops::log_softmax(&x[0]));
    check("matmul", &[x.clone(), noise(&[2, 5, 4], 2.0)], |x| ops::matmul(&x[0], &x[1]));
    check("matmul of a transposed view", &[noise(&[2, 5, 3], 1.0), noise(&[2, 5, 4], 2.0)], |x| {
        ops::matmul(&x[0].transpose(1, 2)?, &x[1])
    });
    let own: std::sync::Arc<[std::ops::Range<usize>]> = [1..4, 0..2].into();
    check("masked where rows are padded", &[noise(&[2, 2, 4, 4], 8.0)], |x| {
        let mask = ops::Mask { causal: true, own: Some(own.clone()), ..ops::Mask::default() };
        ops::softmax(&ops::masked(&x[0], 0.5, mask)?)
    });
    let (w, b) = (noise(&[5, 4], 4.0), noise(&[4], 5.0));
    check("linear", &[x.clone(), w.clone(), b.clone()], |x| ops::linear(&x[0], &x[1], Some(&x[2])));
    check("linear without bias", &[x, w.clone()], |x| ops::linear(&x[0], &x[1], None));
    check("linear of one row", &[noise(&[1, 1, 5], 6.0), w, b], |x| ops::linear(&x[0], &x[1], Some(&x[2])));
    let (cos, sin) = (noise(&[3, 2], 1.0), noise(&[3, 2], 2.0));
    check("rotate", &[noise(&[2, 3, 2, 4], 0.0)], |x| ops::rotate(&x[0], &cos, &sin, ops::Pairs::Halves));
    let (row_cos, row_sin) = (noise(&[2, 3, 2], 3.0), noise(&[2, 3, 2], 4.0));
    check("rotate by row", &[noise(&[2, 3, 2, 4], 0.0)], |x| {
        ops::rotate(&x[0], &row_cos, &row_sin, ops::Pairs::Halves)
    });
    check("rotate a part", &[noise(&[2, 3, 2, 5], 0.0)], |x| {
        ops::rotate(&x[0], &cos, &sin, ops::Pairs::Halves)
    });
    check("masked, then softmax", &[noise(&[1, 2, 2, 4], 7.0)], |x| {
        let mask = ops::Mask { causal: true, first_query: 2, ..ops::Mask::default() };
        ops::softmax(&ops::masked(&x[0], 0.5, mask)?)
    });
}

#[test]
fn f32_kernels_equal_f64_to_rounding() {
    let x = noise(&[7, 33], 0.2);
    let narrow = x.to_dtype(DType::F32).unwrap();
    type Op = fn(&Tensor) -> Result<Tensor>;
    let cases: [(&str, Op); 6] = [
        ("softmax", ops::softmax),
        ("log_softmax", ops::log_softmax),
        ("gelu_tanh", ops::gelu_tanh),
        ("silu", ops::silu),
        ("center", ops::center),
        ("rms", |x| ops::rms(x, 1e-5)),
    ];
    for (name, op) in cases {
        let exact = op(&x).unwrap();
        let gap = (op(&narrow).unwrap().to_dtype(DType::F64).unwrap() - exact).unwrap().abs().unwrap();
        let gap: f64 = gap.max_all().unwrap().to_scalar().unwrap();
        assert!(gap < 2e-6, "{name}: {gap}");
    }
}

#[test]
fn a_masked_row_and_a_row_of_only_minus_infinity() {
    let scores = Tensor::zeros((1, 1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    let mask = ops::Mask { causal: true, ..ops::Mask::default() };
    let p = ops::softmax(&ops::masked(&scores, 1.0, mask).unwrap()).unwrap();
    let p: Vec<f32> = p.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(p, [1.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
    // row 0 owns columns 1 and 2, row 1 column 0: padding neither sees nor is seen
    let scores = Tensor::zeros((2, 1, 3, 3), DType::F32, &Device::Cpu).unwrap();
    let own = Some([1..3, 0..1].into());
    let mask = ops::Mask { causal: true, own, ..ops::Mask::default() };
    let p = ops::softmax(&ops::masked(&scores, 1.0, mask).unwrap()).unwrap();
    let p: Vec<f32> = p.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!(p, [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let none = Tensor::full(f32::NEG_INFINITY, (1, 4), &Device::Cpu).unwrap();
    assert_eq!(ops::softmax(&none).unwrap().to_vec2::<f32>().unwrap(), [[0.0; 4]]);
}

#[test]
fn products_of_transposed_and_broadcast_sides_are_right() {
    // candle's own matmul returns wrong numbers, silently, for a transposed left and a stride-0 right side.
    let a = noise(&[3, 4, 2], 0.0);
    let b = noise(&[1, 4, 5], 1.0).broadcast_as((3, 4, 5)).unwrap();
    let got = ops::matmul(&a.transpose(1, 2).unwrap(), &b).unwrap().to_vec3::<f64>().unwrap();
    let (a, b) = (a.to_vec3::<f64>().unwrap(), b.to_vec3::<f64>().unwrap());
    for (i, got) in got.iter().enumerate() {
        for (m, got) in got.iter().enumerate() {
            for (n, got) in got.iter().enumerate() {
                let want: f64 = (0..4).map(|k| a[i][k][m] * b[i][k][n]).sum();
                assert!((got - want).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn a_frozen_weight_gets_no_gradient() {
    let x = Var::from_tensor(&noise(&[3, 5], 0.0)).unwrap();
    let w = noise(&[5, 4], 1.0);
    let y = ops::linear(x.as_tensor(), &w, None).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some());
    assert!(grads.get(&w).is_none());
}

#[test]
fn a_product_does_not_depend_on_how_many_rows_are_batched() {
    let x = noise(&[64, 96], 0.0).to_dtype(DType::F32).unwrap();
    let w = noise(&[96, 80], 1.0).to_dtype(DType::F32).unwrap();
    let all: Vec<Vec<f32>> = ops::linear(&x, &w, None).unwrap().to_vec2().unwrap();
    for rows in [1, 2, 3, 17] {
        let part: Vec<Vec<f32>> =
            ops::linear(&x.narrow(0, 5, rows).unwrap(), &w, None).unwrap().to_vec2().unwrap();
        assert_eq!(part[..], all[5..5 + rows], "{rows} rows");
    }
}

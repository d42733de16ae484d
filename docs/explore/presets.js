// Tables to start from. Weights are whole numbers p(y, x) up to a factor, one row per label, row-major in x.

export const PRESETS = {
  differ: {
    title: "The laws differ: the second token decides",
    note: `After x₁ = 0 the second token reveals y; after x₁ = 1 it never does. x₁ itself says nothing, so sequential guidance
leaves it at ½. The joint law looks ahead and moves to x₁ = 0.`,
    shape: [2, 2],
    weights: [[47, 3, 25, 25], [3, 47, 25, 25]],
    label: 1,
    scale: 4,
  },
  bits: {
    title: "Two bits",
    note: "p(x|y = 1) is .1, .2, .3, .4 and p(x|y = 0) the reverse. At γ = 3 the joint law is .01, .08, .27, .64.",
    shape: [2, 2],
    weights: [[40, 30, 20, 10], [10, 20, 30, 40]],
    label: 1,
    scale: 3,
  },
  independent: {
    title: "The laws are equal: independent tokens",
    note: `Only x₁ depends on y, and x₂ is independent of it. Zₜ is the same for every prefix, so nothing separates the two
laws.`,
    shape: [2, 2],
    weights: [[12, 28, 18, 42], [24, 56, 6, 14]],
    label: 1,
    scale: 3,
  },
  parity: {
    title: "Equal, though tokens depend on each other",
    note: `y is likely to be the parity of three fair bits. Z₃ is the same after every prefix, so the laws agree without
independence.`,
    shape: [2, 2, 2],
    weights: [[40, 10, 10, 40, 10, 40, 40, 10], [10, 40, 40, 10, 40, 10, 10, 40]],
    label: 1,
    scale: 3,
  },
  three: {
    title: "Three tokens, skewed",
    note: "No symmetry at all: every prefix has another Zₜ, and the gap grows with γ.",
    shape: [2, 2, 2],
    weights: [[30, 4, 12, 20, 2, 16, 8, 8], [6, 30, 10, 4, 14, 3, 30, 3]],
    label: 1,
    scale: 3,
  },
  zeros: {
    title: "With zeros",
    note: `x = 10 is impossible under y = 1, so no scale above 0 can reach it. A scale below 0 makes the tilt improper: its mass
is infinite.`,
    shape: [2, 2],
    weights: [[10, 30, 40, 20], [40, 30, 0, 30]],
    label: 1,
    scale: 2,
  },
};

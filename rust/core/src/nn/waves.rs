//! Sines and cosines in f64, without a branch. The bits are the same on every machine, which the system's functions do
//! not promise, and loops over them fit vector registers, which those do not.

/// Up to here the reduction is exact to the last bits; beyond, the system's functions are to be asked.
pub(super) const LARGEST: f64 = 1e5;

/// Rounds to an integer when added and subtracted: 1.5 * 2^52.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// pi / 2 in three parts of 33 bits (fdlibm): times an integer below 2^20 the first two are exact.
const HALF_PI: [f64; 3] = [
    f64::from_bits(0x3FF9_21FB_5440_0000),
    f64::from_bits(0x3DD0_B461_1A60_0000),
    f64::from_bits(0x3BA3_198A_2E03_7073),
];

/// Coefficients of fdlibm's sine on [-pi / 4, pi / 4], from x^3 on.
const SIN: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];

/// Coefficients of fdlibm's cosine there, from x^4 on.
const COS: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

/// The sine and the cosine of an angle of at most [`LARGEST`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled into loops of several vector widths")]
pub(super) fn sine_and_cosine(angle: f64) -> (f64, f64) {
    let shifted = angle * std::f64::consts::FRAC_2_PI + ROUNDER;
    let turns = shifted - ROUNDER;
    let x = angle - turns * HALF_PI[0] - turns * HALF_PI[1] - turns * HALF_PI[2];
    let z = x * x;
    let sine = SIN.iter().rev().fold(0.0, |sum, c| sum * z + c);
    let sine = x + x * z * sine;
    let cosine = COS.iter().rev().fold(0.0, |sum, c| sum * z + c);
    let cosine = 1.0 - 0.5 * z + z * z * cosine;
    // In odd quarters the two change places; the second bit is the sign, and the cosine is a quarter ahead.
    let quarter = shifted.to_bits();
    let swap = (quarter & 1).wrapping_neg();
    let change = (sine.to_bits() ^ cosine.to_bits()) & swap;
    (
        f64::from_bits((sine.to_bits() ^ change) ^ ((quarter & 2) << 62)),
        f64::from_bits((cosine.to_bits() ^ change) ^ ((quarter.wrapping_add(1) & 2) << 62)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waves_agree_with_the_system_s_functions() {
        let mut worst = 0.0_f64;
        for i in 0..200_000 {
            for frequency in [1e-3, 0.011, 0.1, 0.77, 0.999_9] {
                let angle = f64::from(i - 100_000) * frequency;
                let (sine, cosine) = sine_and_cosine(angle);
                worst = worst.max((sine - angle.sin()).abs()).max((cosine - angle.cos()).abs());
            }
        }
        assert!(worst < 1e-15, "off by {worst}");
    }
}

//! Numbers of 16 bits with the range of f32: half the bytes to wait for where a product reads its weights once.

/// The upper half of an f32: 8 bits of exponent and 8 of precision, the hidden one counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub(super) u16);

impl Bf16 {
    /// The nearest to a finite number, of two as near the even one; off by at most 1/256 of it where it is not subnormal.
    /// What would round to infinity becomes the largest.
    pub fn nearest(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits + 0x7FFF + ((bits >> 16) & 1);
        let beyond = rounded & 0x7F80_0000 == 0x7F80_0000;
        Self((if beyond { bits } else { rounded } >> 16) as u16)
    }

    /// The same number.
    pub fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::Bf16;

    #[test]
    fn the_nearest_of_all_is_chosen_and_of_two_as_near_the_even_one() {
        for low in 0..0x7F7F_u16 {
            let (below, above) = (Bf16(low).wide(), Bf16(low + 1).wide());
            let middle = f32::from_bits(below.to_bits() + 0x8000);
            let even = if low % 2 == 0 { low } else { low + 1 };
            let before = f32::from_bits(middle.to_bits() - 1);
            let after = f32::from_bits(middle.to_bits() + 1);
            for (value, nearest) in
                [(below, low), (before, low), (middle, even), (after, low + 1), (above, low + 1)]
            {
                assert_eq!(Bf16::nearest(value), Bf16(nearest), "{value:e}");
                assert_eq!(Bf16::nearest(-value), Bf16(nearest | 0x8000), "-{value:e}");
            }
        }
        assert_eq!(Bf16::nearest(f32::MAX), Bf16(0x7F7F), "no finite number becomes infinite");
        assert_eq!(Bf16::nearest(f32::MIN), Bf16(0xFF7F));
    }
}

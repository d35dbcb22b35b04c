//! What a camera sees, drawn: a picture of about 100 KiB.

/// Of a picture in pixels.
pub(super) const WIDTH: usize = 400;
/// Of a picture in pixels.
pub(super) const HEIGHT: usize = 256;
const HEADER: usize = 54;
const PALETTE: usize = 1_024;
/// Bytes of one picture: a BMP with one byte for each pixel.
pub const SNAPSHOT_LEN: usize = HEADER + PALETTE + WIDTH * HEIGHT;

/// The first 64 colours are shades of the sky, the next of the ground, the next of who moves, the last of letters.
const SHADES: usize = 64;
const GROUND: u8 = 64;
const FIGURE: u8 = 128;
const INK: u8 = 255;

/// What is to be drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    /// From 0 at night to 63 at noon.
    pub(super) light: u8,
    /// Seconds of the day.
    pub(super) time: u64,
    /// Where somebody stands, from 0 to 999.
    pub(super) figures: &'a [u32],
    /// Which camera it is.
    pub(super) number: usize,
}

/// Digits of three by five points, a row in three bits, the uppermost first; the last is a colon.
const DIGITS: [u16; 11] =
    [0o75557, 0o26227, 0o71747, 0o71717, 0o55711, 0o74717, 0o74757, 0o71244, 0o75757, 0o75717, 0o02020];

/// Draws a picture.
pub(super) fn snapshot(scene: &Scene<'_>) -> Vec<u8> {
    let mut pixels = vec![0; WIDTH * HEIGHT];
    let horizon = HEIGHT * 3 / 5 + 6 * scene.number;
    let light = usize::from(scene.light.min(63));
    for (y, row) in pixels.chunks_exact_mut(WIDTH).enumerate() {
        let colour = if y < horizon {
            narrow(light.saturating_sub((horizon - y) / 12))
        } else {
            GROUND + narrow((light / 2 + (y - horizon) / 8).min(63))
        };
        row.fill(colour);
    }
    // A wall with a window, somewhere else for each camera.
    let wall = 40 + 60 * (scene.number % 4);
    fill(&mut pixels, (wall, horizon.saturating_sub(90)), (110, 100), GROUND + 8 + narrow(light / 3));
    let glow = if light < 20 { 62 } else { light / 2 };
    fill(&mut pixels, (wall + 35, horizon.saturating_sub(70)), (40, 34), narrow(glow));
    for figure in scene.figures {
        let x = usize::try_from(*figure).unwrap_or(0) * (WIDTH - 40) / 1_000;
        disc(&mut pixels, (x + 20, horizon.saturating_sub(38)), 11, FIGURE + 40);
        fill(&mut pixels, (x + 8, horizon.saturating_sub(26)), (24, 62), FIGURE + 10);
    }
    clock(&mut pixels, scene.time);
    encode(&pixels)
}

fn narrow(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn set(pixels: &mut [u8], x: usize, y: usize, colour: u8) {
    if x < WIDTH {
        if let Some(pixel) = pixels.get_mut(y * WIDTH + x) {
            *pixel = colour;
        }
    }
}

fn fill(pixels: &mut [u8], (left, top): (usize, usize), (width, height): (usize, usize), colour: u8) {
    for y in top..top + height {
        for x in left..left + width {
            set(pixels, x, y, colour);
        }
    }
}

fn disc(pixels: &mut [u8], (x, y): (usize, usize), radius: usize, colour: u8) {
    for row in 0..=2 * radius {
        for column in 0..=2 * radius {
            if row.abs_diff(radius).pow(2) + column.abs_diff(radius).pow(2) <= radius * radius {
                set(pixels, (x + column).saturating_sub(radius), (y + row).saturating_sub(radius), colour);
            }
        }
    }
}

fn clock(pixels: &mut [u8], time: u64) {
    let text = format!("{:02}:{:02}:{:02}", time / 3_600 % 24, time / 60 % 60, time % 60);
    for (place, letter) in text.chars().enumerate() {
        let digit = letter.to_digit(10).and_then(|digit| usize::try_from(digit).ok()).unwrap_or(10);
        let rows = DIGITS.get(digit).copied().unwrap_or(0);
        for bit in (0..15).filter(|bit| rows >> (14 - bit) & 1 == 1) {
            fill(pixels, (8 + 16 * place + 4 * (bit % 3), 8 + 4 * (bit / 3)), (4, 4), INK);
        }
    }
}

/// A BMP with a palette; its rows go from the lowest to the uppermost.
fn encode(pixels: &[u8]) -> Vec<u8> {
    let long = |number: usize| u32::try_from(number).unwrap_or(0).to_le_bytes();
    let mut out = Vec::with_capacity(SNAPSHOT_LEN);
    out.extend(b"BM");
    for number in [SNAPSHOT_LEN, 0, HEADER + PALETTE, 40, WIDTH, HEIGHT] {
        out.extend(long(number));
    }
    out.extend([1, 0, 8, 0]);
    for number in [0, WIDTH * HEIGHT, 2_835, 2_835, 256, 256] {
        out.extend(long(number));
    }
    for index in 0..4 * SHADES {
        let shade = narrow(4 * (index % SHADES));
        let [blue, green, red] = match index / SHADES {
            0 => [shade / 2 + 60, shade / 5 * 3 + 20, shade / 2 + 12],
            1 => [shade / 4 + 12, shade / 2 + 26, shade / 3 + 18],
            2 => [shade / 2 + 20, shade / 2 + 60, shade / 2 + 120],
            _ => [shade, shade, shade],
        };
        out.extend([blue, green, red, 0]);
    }
    for row in pixels.chunks_exact(WIDTH).rev() {
        out.extend(row);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_is_a_bitmap_of_a_hundred_kilobytes_that_shows_time_and_who_moves() {
        let scene = Scene { light: 40, time: 3_661, figures: &[], number: 1 };
        let empty = snapshot(&scene);
        assert_eq!((empty.len(), &empty[..2]), (SNAPSHOT_LEN, &b"BM"[..]));
        assert!((100_000..=110_000).contains(&SNAPSHOT_LEN));
        assert_eq!(empty[10..14], 1_078_u32.to_le_bytes(), "where the pixels begin");
        assert_ne!(empty, snapshot(&Scene { time: 3_662, ..scene }));
        assert_ne!(empty, snapshot(&Scene { figures: &[500], ..scene }));
        assert_ne!(empty, snapshot(&Scene { light: 2, ..scene }));
        assert_eq!(empty, snapshot(&scene));
        // Whatever it is told, it draws.
        snapshot(&Scene { light: 255, time: u64::MAX, figures: &[u32::MAX, 999], number: 40 });
    }
}

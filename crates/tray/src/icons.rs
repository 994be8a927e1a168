//! The pictures of the tray icon.

use corral_core::tray::Icon;
use corral_core::{Code, Error, Result};

/// Pictures of the moving mark.
pub(crate) const FRAMES: usize = 8;

/// Each picture in the sizes that panels ask for.
#[derive(Debug, Clone)]
pub(crate) struct Icons {
    stopped: Vec<ksni::Icon>,
    ready: Vec<ksni::Icon>,
    failed: Vec<ksni::Icon>,
    busy: Vec<Vec<ksni::Icon>>,
}

macro_rules! sizes {
    ($name:literal) => {
        [
            include_bytes!(concat!("../../../icons/tray/", $name, "-16.png")).as_slice(),
            include_bytes!(concat!("../../../icons/tray/", $name, "-22.png")),
            include_bytes!(concat!("../../../icons/tray/", $name, "-24.png")),
            include_bytes!(concat!("../../../icons/tray/", $name, "-32.png")),
            include_bytes!(concat!("../../../icons/tray/", $name, "-48.png")),
            include_bytes!(concat!("../../../icons/tray/", $name, "-64.png")),
        ]
    };
}

impl Icons {
    /// The pictures that are part of this program.
    pub(crate) fn load() -> Result<Self> {
        let busy: [[&[u8]; 6]; FRAMES] = [
            sizes!("busy-0"),
            sizes!("busy-1"),
            sizes!("busy-2"),
            sizes!("busy-3"),
            sizes!("busy-4"),
            sizes!("busy-5"),
            sizes!("busy-6"),
            sizes!("busy-7"),
        ];
        Ok(Self {
            stopped: pictures(&sizes!("stopped"))?,
            ready: pictures(&sizes!("ready"))?,
            failed: pictures(&sizes!("failed"))?,
            busy: busy.iter().map(|frame| pictures(frame)).collect::<Result<_>>()?,
        })
    }

    /// The picture of a state; of the busy one, this one of its movement.
    pub(crate) fn of(&self, icon: Icon, frame: usize) -> &[ksni::Icon] {
        match icon {
            Icon::Stopped => &self.stopped,
            Icon::Ready => &self.ready,
            Icon::Failed => &self.failed,
            Icon::Busy => self.busy.get(frame % FRAMES).map_or(&self.stopped, |picture| picture),
        }
    }
}

fn pictures(files: &[&[u8]]) -> Result<Vec<ksni::Icon>> {
    files.iter().map(|file| picture(file)).collect()
}

/// Decodes a PNG of 8 bit RGBA.
fn picture(file: &[u8]) -> Result<ksni::Icon> {
    let broken = |what: &str| Error::new(Code::Internal, format!("a picture of the tray icon is broken: {what}"));
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|error| broken(&error.to_string()))?;
    let size = reader.output_buffer_size().ok_or_else(|| broken("it is too large"))?;
    let mut data = vec![0; size];
    let info = reader.next_frame(&mut data).map_err(|error| broken(&error.to_string()))?;
    if info.color_type != png::ColorType::Rgba {
        return Err(broken("it has no alpha channel"));
    }
    data.truncate(info.buffer_size());
    // Panels want ARGB.
    for pixel in data.chunks_exact_mut(4) {
        pixel.rotate_right(1);
    }
    let pixels = |length: u32| i32::try_from(length).map_err(|_| broken("it is too large"));
    Ok(ksni::Icon { width: pixels(info.width)?, height: pixels(info.height)?, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_a_picture_of_its_own_in_each_size() {
        let icons = Icons::load().unwrap();
        let states = [Icon::Stopped, Icon::Ready, Icon::Failed, Icon::Busy];
        for (position, sides) in [16, 22, 24, 32, 48, 64].into_iter().enumerate() {
            let mut seen = Vec::new();
            for state in states {
                let picture = &icons.of(state, 0)[position];
                assert_eq!((picture.width, picture.height), (sides, sides), "{state:?}");
                assert_eq!(picture.data.len(), usize::try_from(sides * sides * 4).unwrap());
                assert!(!seen.contains(&&picture.data), "{state:?} at {sides} looks like another state");
                seen.push(&picture.data);
            }
        }
        let frames: Vec<_> = (0..FRAMES).map(|frame| &icons.of(Icon::Busy, frame)[3].data).collect();
        assert!(frames.windows(2).all(|pair| pair[0] != pair[1]), "the mark moves");
    }

    /// What WCAG 2.2 asks of graphics that have to be told from what is around them (1.4.11).
    const CONTRAST: f64 = 3.0;

    /// A light and a dark panel, as grey from 0 to 255.
    const PANELS: [u8; 2] = [0xf0, 0x30];

    /// Relative luminance as WCAG defines it, of a colour of sRGB from 0 to 255.
    fn luminance(colour: [f64; 3]) -> f64 {
        let linear = colour.map(|part| {
            let part = part / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    /// The contrast of a pixel, as ARGB, on a panel with the panel around it.
    fn contrast(pixel: [u8; 4], panel: u8) -> f64 {
        let [alpha, colour @ ..] = pixel.map(f64::from);
        let (alpha, panel) = (alpha / 255.0, f64::from(panel));
        let (one, other) = (luminance(colour.map(|part| part * alpha + panel * (1.0 - alpha))), luminance([panel; 3]));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn each_picture_can_be_told_from_a_light_and_from_a_dark_panel() {
        let icons = Icons::load().unwrap();
        let busy = (0..FRAMES).map(|frame| (Icon::Busy, frame));
        for (state, frame) in [Icon::Stopped, Icon::Ready, Icon::Failed].map(|state| (state, 0)).into_iter().chain(busy)
        {
            for (picture, panel) in
                icons.of(state, frame).iter().flat_map(|picture| PANELS.map(|panel| (picture, panel)))
            {
                let what = format!("{state:?} {frame} at {} on {panel:#x}", picture.width);
                let (mut told, mut all) = (0.0, 0.0);
                for pixel in picture.data.as_chunks().0 {
                    let (share, contrast) = (f64::from(pixel[0]) / 255.0, contrast(*pixel, panel));
                    // Its edge is mixed with the panel; what is whole has to stand out.
                    assert!(pixel[0] < 0xfa || contrast >= CONTRAST, "{what}: {pixel:x?} has {contrast:.2}");
                    all += share;
                    told += if contrast >= CONTRAST { share } else { 0.0 };
                }
                assert!(told / all > 0.4, "{what}: {:.2} of it stands out", told / all);
            }
        }
    }
}

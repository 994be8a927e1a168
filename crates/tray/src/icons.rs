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
}

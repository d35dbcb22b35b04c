//! The page, carried in the program.

use damselfly_examples::web::File;

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! file {
    ($name:literal, $media_type:expr) => {
        File { path: concat!("/", $name), media_type: $media_type, body: include_str!(concat!("page/", $name)) }
    };
}

/// All of its files.
pub(crate) const FILES: &[File] = &[
    file!("index.html", "text/html; charset=utf-8"),
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("app.js", SCRIPT),
    file!("boards.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("house.js", SCRIPT),
    file!("model.js", SCRIPT),
    file!("mqtt.js", SCRIPT),
    file!("packets.js", SCRIPT),
    file!("panel.js", SCRIPT),
    file!("plan.js", SCRIPT),
    file!("sparkline.js", SCRIPT),
    file!("symbols.js", SCRIPT),
    file!("topology.js", SCRIPT),
];

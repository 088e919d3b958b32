//! Attacks, briefly: during each of them every honest transfer and exchange succeeds, with every byte right. These tests
//! measure no speed; `scripts/attack` does.
//!
//! Not run again over HTTPS: the table of attacks says which of them are.

use std::path::Path;

use ::attack::{Outcome, Scale, Scene, Target, Transport, run};

use crate::harness::BINARY;

fn nobody_notices(name: &str, transport: Transport) {
    let scene = Scene::named(name).expect("a scene of the table");
    let target = Target::start(Path::new(BINARY), transport).unwrap();
    let beside = run(&target, scene, &Scale::short()).unwrap();
    assert!(beside.attack.opened > 0, "no attack: {:?}", beside.attack);
    let Outcome { transfers, exchanges, .. } = &beside.beside;
    let [large, small] =
        [transfers, exchanges].map(|count| (count.done, count.failed, &count.told));
    assert!(
        beside.is_unharmed(),
        "(done, failed, how) of transfers {large:#?} and of exchanges {small:#?} beside {:?}",
        beside.attack
    );
}

/// A test for each scene, over HTTP, and over HTTPS where the table says so.
macro_rules! scenes {
    ($($module:ident, by $transport:ident: [$($name:ident)*];)*) => {
        $(mod $module {
            $(scenes!(@test $name, $transport);)*
        })*

        #[test]
        fn every_scene_of_the_table_is_played() {
            let played = [$($((stringify!($transport), stringify!($name)),)*)*];
            for scene in ::attack::SCENES {
                let is_played = |over| {
                    let name = format!("heavy_{}", scene.name);
                    played.contains(&(over, name.as_str()))
                };
                assert!(is_played("plain"), "{}", scene.name);
                assert_eq!(is_played("tls"), scene.tls, "{} over TLS", scene.name);
            }
        }
    };
    (@test $name:ident, $transport:ident) => {
        #[test]
        fn $name() {
            let scene = stringify!($name).trim_start_matches("heavy_");
            super::nobody_notices(scene, super::$transport());
        }
    };
}

fn plain() -> Transport {
    Transport::Plain
}

fn tls() -> Transport {
    Transport::Tls
}

scenes! {
    plain, by plain: [
        heavy_stalled heavy_stalled_with_length heavy_stalled_of_one_site heavy_trickling heavy_narrow_windows
        heavy_bursts_of_five_seconds heavy_bursts_of_ten_seconds heavy_aborts_and_returns heavy_returns_with_length
        heavy_sessions_of_eight heavy_sessions_of_fourteen heavy_sessions_of_one_site
        heavy_hammering heavy_hammering_in_a_row
        heavy_heads_by_byte heavy_sending_on heavy_tiny_chunks heavy_tiny_records heavy_knocking heavy_handshakes
        heavy_kept heavy_kept_of_one_site heavy_crowding
    ];
    tls, by tls: [
        heavy_stalled heavy_stalled_with_length heavy_trickling heavy_aborts_and_returns
        heavy_sessions_of_fourteen heavy_hammering heavy_hammering_in_a_row
        heavy_heads_by_byte heavy_sending_on heavy_tiny_chunks heavy_tiny_records heavy_handshakes heavy_kept heavy_crowding
    ];
}

//! Keys of tickets: a worker that reads one while the master writes gets a whole key or none.

use super::*;
use shm::TicketKeys;

fn words() -> Arc<Vec<AtomicU64>> {
    Arc::new((0..TicketKeys::WORDS).map(|_| AtomicU64::new(0)).collect())
}

#[test]
fn a_key_that_is_read_is_whole() {
    check(Some(3), || {
        let words = words();
        TicketKeys::new(&words).put(&[1; 32], 1);
        let master = thread::spawn({
            let words = words.clone();
            move || {
                TicketKeys::new(&words).put(&[2; 32], 2);
                TicketKeys::new(&words).put(&[3; 32], 3);
            }
        });
        let keys = TicketKeys::new(&words);
        for number in [1, 3] {
            if let Some(key) = keys.key(number) {
                assert_eq!(key, [number as u8; 32]);
            }
        }
        master.join().unwrap();
    });
}

#[test]
fn the_current_key_is_there_once_its_number_is_known() {
    check(None, || {
        let words = words();
        let master = thread::spawn({
            let words = words.clone();
            move || TicketKeys::new(&words).put(&[1; 32], 1)
        });
        let keys = TicketKeys::new(&words);
        match keys.current() {
            0 => {}
            number => assert_eq!(keys.key(number), Some([1; 32])),
        }
        master.join().unwrap();
    });
}

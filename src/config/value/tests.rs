use proptest::prelude::*;

use super::*;

#[test]
fn durations_have_a_unit_or_are_seconds() {
    for (text, milliseconds) in [
        ("0", 0),
        ("500ms", 500),
        ("30", 30_000),
        ("5s", 5_000),
        ("10m", 600_000),
        ("24H", 86_400_000),
        ("7 d", 604_800_000),
    ] {
        assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
    }
    for text in
        ["", "s", "-5s", "+5s", "1.5h", "5 s s", "5w", "0x5s", "3651d", "99999999999999999999s"]
    {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn sizes_are_decimal() {
    for (text, bytes) in
        [("1", 1), ("64kb", 64_000), ("1MB", 1_000_000), ("2 Gb", 2_000_000_000), ("7B", 7)]
    {
        assert_eq!((SIZE.parse)(text), Ok(bytes), "{text}");
    }
    for text in ["", "0", "0MB", "-1", "1MiB", "1.5MB", "MB", "9007199254740992", "99999999999GB"] {
        assert_eq!((SIZE.parse)(text), Err(ParseError::Other), "{text}");
    }
}

#[test]
fn memory_is_a_size_or_a_part() {
    for (text, limit) in [
        ("0", MemoryLimit::Bytes(0)),
        ("512MB", MemoryLimit::Bytes(512_000_000)),
        ("80%", MemoryLimit::Percent(80)),
        ("100 %", MemoryLimit::Percent(100)),
    ] {
        assert_eq!((MEMORY.parse)(text), Ok(limit), "{text}");
        assert_eq!((MEMORY.parse)(&(MEMORY.show)(&limit)), Ok(limit), "{text}");
    }
    for text in ["", "%", "0%", "101%", "256%", "-1%", "1.5%", "80%%", "1MiB"] {
        assert_eq!((MEMORY.parse)(text), Err(ParseError::Other), "{text}");
    }
}

#[test]
fn zero_is_an_answer_only_where_it_has_a_meaning() {
    assert_eq!((AGE.parse)("0"), Ok(None));
    assert_eq!((AGE.parse)("0ms"), Ok(None));
    assert_eq!((DURATION.parse)("0"), Ok(Duration::ZERO));
    assert_eq!((POSITIVE_DURATION.parse)("0ms"), Err(ParseError::Other));
    assert_eq!((COUNT.parse)("0"), Ok(0));
}

#[test]
fn flags_have_eight_spellings() {
    for text in ["true", "1", "YES", "on"] {
        assert_eq!(flag(text), Ok(true), "{text}");
    }
    for text in ["False", "0", "no", "off"] {
        assert_eq!(flag(text), Ok(false), "{text}");
    }
    for text in ["", "2", "enabled", "tru"] {
        assert_eq!(flag(text), Err(ParseError::Other), "{text}");
    }
}

#[test]
fn numbers_have_digits_only() {
    assert_eq!((PORT.parse)("65535"), Ok(65535));
    for text in ["65536", "-1", "+1", "0x10", "1e3", "1_000", ""] {
        assert_eq!((PORT.parse)(text), Err(ParseError::Other), "{text}");
    }
    assert_eq!((COUNT.parse)("9007199254740991"), Ok(GREATEST));
    assert_eq!((COUNT.parse)("9007199254740992"), Err(ParseError::Other));
}

proptest! {
    #[test]
    fn a_duration_is_read_as_it_is_written(milliseconds in 0..=315_360_000_000u64) {
        let value = Duration::from_millis(milliseconds);
        prop_assert_eq!(duration(&show_duration(value)), Some(value));
    }

    #[test]
    fn a_duration_in_any_unit_is_read_as_it_is_written(
        number in 0..=3650u64, unit in prop::sample::select(vec![1, 1_000, 60_000, 3_600_000, 86_400_000u64])
    ) {
        let value = Duration::from_millis(number * unit);
        prop_assert_eq!(duration(&show_duration(value)), Some(value));
    }

    #[test]
    fn a_size_is_read_as_it_is_written(
        number in 1..=1_000_000u64, unit in prop::sample::select(vec![1, 1_000, 1_000_000, 1_000_000_000u64])
    ) {
        prop_assert_eq!(size(&show_size(number * unit)), Some(number * unit));
    }

    #[test]
    fn a_list_drops_blanks_and_keeps_order(parts in prop::collection::vec("[a-z ]{0,5}", 0..8)) {
        let text = parts.join(",");
        let expected: Vec<_> = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
        prop_assert_eq!(items(&text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,30}") {
        let _ = (duration(&text), size(&text), flag(&text), digits::<u64>(&text));
    }
}

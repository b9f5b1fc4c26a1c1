//! Messages as a Parquet file, compressed with zstd. In memory: a row group is written when it is full.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::{ColumnPath, SchemaDescriptor, TypePtr};
use runcast_protocol::{Entry, Lane, RunId, Sequence};

use super::commit::RowGroup;
use super::row::Row;

/// Bytes of messages that make a row group.
pub(crate) const GROUP_BYTES: u64 = 1 << 20;

/// Columns of a file. Other tools read them by these names.
const COLUMNS: &str = "message runcast {
    required binary run_id (STRING);
    required binary variation_id (STRING);
    required binary writer (STRING);
    required binary channel (STRING);
    required binary type (STRING);
    required int64 sequence;
    optional int64 timestamp (TIMESTAMP(MICROS,true));
    required binary message (STRING);
}";

/// Number of the column `message`, from 0.
pub(crate) const MESSAGE: usize = 7;

/// The columns, parsed.
pub(crate) static SCHEMA: LazyLock<Arc<SchemaDescriptor>> = LazyLock::new(|| {
    let schema = parse_message_type(COLUMNS).expect("the schema is right");
    Arc::new(SchemaDescriptor::new(TypePtr::new(schema)))
});

/// Writes a file's row groups.
#[derive(Debug)]
pub(crate) struct Table {
    run: ByteArray,
    file: SerializedFileWriter<Vec<u8>>,
    pending: Pending,
    groups: Vec<RowGroup>,
    rows: u64,
    raw_bytes: u64,
}

/// A file that was written.
#[derive(Debug)]
pub(crate) struct Written {
    /// The file, or what was not drained of it.
    pub(crate) bytes: Bytes,
    /// Its row groups.
    pub(crate) groups: Vec<RowGroup>,
    /// Messages in it.
    pub(crate) rows: u64,
    /// Their bytes as they came.
    pub(crate) raw_bytes: u64,
}

/// The row group that is being filled, in columns.
#[derive(Debug, Default)]
struct Pending {
    lane: Option<Lane>,
    last: Sequence,
    variations: Vec<ByteArray>,
    sequences: Vec<i64>,
    times: Vec<i64>,
    /// For each row whether it has a time.
    timed: Vec<i16>,
    messages: Vec<ByteArray>,
    raw_bytes: u64,
    text_bytes: u64,
}

impl Table {
    pub(crate) fn new(run: &RunId) -> Result<Self, ParquetError> {
        let level = ZstdLevel::try_new(3)?;
        let message = ColumnPath::from("message");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by(concat!("runcast ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_column_dictionary_enabled(message.clone(), false)
            .set_column_statistics_enabled(message, EnabledStatistics::None)
            .set_column_dictionary_enabled(ColumnPath::from("sequence"), false)
            .set_column_dictionary_enabled(ColumnPath::from("timestamp"), false)
            .set_offset_index_disabled(true)
            .build();
        let file = SerializedFileWriter::new(Vec::new(), SCHEMA.root_schema_ptr(), Arc::new(properties))?;
        let run = ByteArray::from(run.as_str());
        let pending = Pending::default();
        Ok(Self { run, file, pending, groups: Vec::new(), rows: 0, raw_bytes: 0 })
    }

    /// Adds a message. Those of a lane come in order, one lane after the other.
    pub(crate) fn push(&mut self, lane: &Lane, entry: &Entry) -> Result<(), ParquetError> {
        let pending = &self.pending;
        let follows = pending.lane.as_ref() == Some(lane) && entry.sequence == pending.last.next();
        if !follows || pending.raw_bytes >= GROUP_BYTES {
            self.flush()?;
        }
        self.rows += 1;
        self.raw_bytes += entry.line.len() as u64;
        self.pending.push(lane, entry);
        Ok(())
    }

    /// Bytes of the messages so far, as they came.
    pub(crate) fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Messages so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// What is written and not taken yet, for a file that goes out in pieces.
    pub(crate) fn drain(&mut self) -> Result<Bytes, ParquetError> {
        self.file.flush()?;
        Ok(std::mem::take(self.file.inner_mut()).into())
    }

    /// Writes the rest and the footer.
    pub(crate) fn finish(mut self) -> Result<Written, ParquetError> {
        self.flush()?;
        let bytes = self.file.into_inner()?.into();
        Ok(Written { bytes, groups: self.groups, rows: self.rows, raw_bytes: self.raw_bytes })
    }

    /// Writes the row group that is being filled, if there is anything in it.
    fn flush(&mut self) -> Result<(), ParquetError> {
        let pending = std::mem::take(&mut self.pending);
        let Some(lane) = pending.lane else { return Ok(()) };
        let rows = pending.messages.len();
        let same = |text: &str| vec![ByteArray::from(text); rows];
        let kind = serde_json::to_string(&lane.channel.message_type()).unwrap_or_default();
        let texts = [
            vec![self.run.clone(); rows],
            pending.variations,
            same(lane.writer.as_str()),
            same(lane.channel.as_str()),
            same(kind.trim_matches('"')),
        ];
        let mut group = self.file.next_row_group()?;
        let missing = || ParquetError::General("a column is missing".to_owned());
        for values in texts {
            let mut column = group.next_column()?.ok_or_else(missing)?;
            column.typed::<ByteArrayType>().write_batch(&values, None, None)?;
            column.close()?;
        }
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<Int64Type>().write_batch(&pending.sequences, None, None)?;
        column.close()?;
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<Int64Type>().write_batch(&pending.times, Some(&pending.timed), None)?;
        column.close()?;
        let mut column = group.next_column()?.ok_or_else(missing)?;
        column.typed::<ByteArrayType>().write_batch(&pending.messages, None, None)?;
        column.close()?;
        let written = group.close()?;
        let (offset, length) = written.column(MESSAGE).byte_range();

        let number = |number: Option<&i64>| {
            number.and_then(|n| Sequence::new(u64::try_from(*n).ok()?).ok()).unwrap_or_default()
        };
        let time = |micros: Option<&i64>| {
            let time = micros.and_then(|micros| jiff::Timestamp::from_microsecond(*micros).ok());
            time.map(runcast_protocol::timestamp::Text)
        };
        self.groups.push(RowGroup {
            lane,
            first: number(pending.sequences.first()),
            last: number(pending.sequences.last()),
            rows: rows as u64,
            first_time: time(pending.times.iter().min()),
            last_time: time(pending.times.iter().max()),
            text_bytes: pending.text_bytes,
            raw_bytes: pending.raw_bytes,
            offset,
            length,
        });
        Ok(())
    }
}

impl Pending {
    fn push(&mut self, lane: &Lane, entry: &Entry) {
        let row = Row::read(&entry.line);
        let time = row.as_ref().and_then(Row::time);
        if self.lane.as_ref() != Some(lane) {
            self.lane = Some(lane.clone());
        }
        self.last = entry.sequence;
        self.variations.push(ByteArray::from(entry.variation.as_str()));
        // A sequence is below 2^53.
        self.sequences.push(i64::try_from(entry.sequence.get()).unwrap_or(i64::MAX));
        self.timed.push(i16::from(time.is_some()));
        self.times.extend(time.map(jiff::Timestamp::as_microsecond));
        self.messages.push(ByteArray::from(entry.line.clone()));
        self.raw_bytes += entry.line.len() as u64;
        self.text_bytes += row.as_ref().map_or(0, |row| row.text_bytes() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::lines;
    use super::*;
    use runcast_protocol::VariationId;

    fn entry(sequence: u64, text: &str) -> Entry {
        let line = format!(
            r#"{{"timestamp":"2026-01-10T10:30:00.00000{}Z","run_id":"r","variation_id":"v","sequence":{sequence},"type":"output","content":{},"metadata":{{}}}}"#,
            sequence % 10,
            serde_json::to_string(text).unwrap(),
        );
        let sequence = Sequence::new(sequence).unwrap();
        Entry { sequence, variation: VariationId::new("v").unwrap(), line: line.into() }
    }

    fn table(entries: &[(&str, Entry)]) -> Written {
        let mut table = Table::new(&RunId::new("r").unwrap()).unwrap();
        for (lane, entry) in entries {
            table.push(&lane.parse().unwrap(), entry).unwrap();
        }
        table.finish().unwrap()
    }

    #[test]
    fn a_row_group_holds_one_lane_without_a_hole() {
        let lane = |name: &'static str, sequences: &[u64]| {
            sequences.iter().map(move |n| (name, entry(*n, "é\n"))).collect::<Vec<_>>()
        };
        let entries = [lane("output/v", &[3, 4, 7]), lane("logs/v", &[1, 2])].concat();
        let written = table(&entries);
        let groups: Vec<_> = written
            .groups
            .iter()
            .map(|g| (g.lane.to_string(), g.first.get(), g.last.get(), g.rows))
            .collect();
        let output = "output/v".to_owned();
        assert_eq!(groups, [(output.clone(), 3, 4, 2), (output, 7, 7, 1), ("logs/v".to_owned(), 1, 2, 2)]);
        assert_eq!(written.groups[0].text_bytes, 6);
        assert_eq!(written.groups[0].last_time.unwrap().to_string(), "2026-01-10T10:30:00.000004Z");
        assert_eq!((written.rows, &written.bytes[..4]), (5, &b"PAR1"[..]));
    }

    #[test]
    fn a_row_group_is_about_a_mebibyte_and_reads_as_it_was_written() {
        let text = "x".repeat(1000);
        let entries: Vec<_> = (1..=2500).map(|n| ("output/v", entry(n, &text))).collect();
        let written = table(&entries);
        assert_eq!(written.groups.len(), 3);
        let mut read = Vec::new();
        for group in &written.groups {
            assert!(group.raw_bytes <= GROUP_BYTES + 2000, "{}", group.raw_bytes);
            let (offset, length) = (group.offset as usize, group.length as usize);
            read.extend(lines(written.bytes.slice(offset..offset + length), group.rows as usize).unwrap());
        }
        let said: Vec<_> = entries.into_iter().map(|(_, entry)| entry.line).collect();
        assert!(read == said);
        assert!(written.bytes.len() < 100_000, "{}", written.bytes.len());
    }

    #[test]
    fn what_says_no_time_and_no_text_is_kept_as_it_is() {
        let mut odd = entry(1, "");
        odd.line = r#"{"variation_id":"v","sequence":1,"type":"output","content":5}"#.into();
        let written = table(&[("output/v", odd.clone()), ("output/v", entry(2, "a"))]);
        let group = &written.groups[0];
        assert_eq!((group.rows, group.text_bytes), (2, 1));
        let (offset, length) = (group.offset as usize, group.length as usize);
        let read = lines(written.bytes.slice(offset..offset + length), 2).unwrap();
        assert_eq!(read[0], odd.line);
    }

    #[test]
    fn damage_is_an_error_and_no_panic() {
        let entries: Vec<_> = (1..=50).map(|n| ("output/v", entry(n, &"abc".repeat(n as usize)))).collect();
        let written = table(&entries);
        let group = &written.groups[0];
        let chunk = written.bytes.slice(group.offset as usize..(group.offset + group.length) as usize);
        for cut in 0..chunk.len() {
            assert!(lines(chunk.slice(..cut), 50).is_err());
            let mut flipped = chunk.to_vec();
            flipped[cut] ^= 0x41;
            // Some bits change nothing that matters here: sha256 finds those.
            let _ = lines(flipped.into(), 50);
        }
        assert!(lines(chunk, 51).is_err());
    }
}

//! Reading one row group: of all its columns only the messages. Pure.

use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::{get_column_reader, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use runcast_protocol::{Entry, MessageHead, VariationId};

use super::ArchiveError;
use super::commit::RowGroup;
use super::table::{MESSAGE, SCHEMA};

/// The lines of a column chunk, which holds `rows` of them. The file's footer would say nothing of the chunk
/// that is not known: so it need not be read.
pub(crate) fn lines(chunk: Bytes, rows: usize) -> Result<Vec<Bytes>, ArchiveError> {
    let read = || {
        let column = SCHEMA.column(MESSAGE);
        let length = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        let meta = ColumnChunkMetaData::builder(column.clone())
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_num_values(i64::try_from(rows).unwrap_or(i64::MAX))
            .set_total_compressed_size(length)
            .set_data_page_offset(0)
            .build()?;
        let pages = SerializedPageReader::new(Arc::new(chunk), &meta, rows, None)?;
        let mut reader = get_typed_column_reader::<ByteArrayType>(get_column_reader(column, Box::new(pages)));
        let mut values: Vec<ByteArray> = Vec::new();
        // One more than there should be: to see that there is none.
        while values.len() <= rows {
            let (_, read, _) = reader.read_records(rows + 1 - values.len(), None, None, &mut values)?;
            if read == 0 {
                break;
            }
        }
        Ok::<_, parquet::errors::ParquetError>(values)
    };
    let values = read().map_err(|error| ArchiveError::Damaged(format!("a row group: {error}")))?;
    if values.len() != rows {
        let found = values.len();
        return Err(ArchiveError::Damaged(format!("a row group of {rows} messages holds {found}")));
    }
    // Copied together, so that one that is kept does not keep all that its page holds.
    Ok(values.iter().map(|value| Bytes::copy_from_slice(value.data())).collect())
}

/// The messages of a row group whose column `message` is `chunk`.
pub(crate) fn entries(group: &RowGroup, chunk: Bytes) -> Result<Vec<Entry>, ArchiveError> {
    let damaged = |why: &str| {
        let (lane, first, last) = (&group.lane, group.first, group.last);
        ArchiveError::Damaged(format!("messages {first} to {last} of {lane}: {why}"))
    };
    let rows = usize::try_from(group.rows).map_err(|_| damaged("too many"))?;
    let mut next = group.first;
    let mut entries = Vec::with_capacity(rows.min(1 << 20));
    for line in lines(chunk, rows)? {
        let head = MessageHead::parse(&line).map_err(|error| damaged(&error.to_string()))?;
        if head.sequence != next || head.kind.channel() != group.lane.channel {
            return Err(damaged("another message is in its place"));
        }
        if head.writer() != group.lane.writer.as_str() {
            return Err(damaged("another writer's message is in its place"));
        }
        let variation = match group.lane.writer.variation() {
            Some(own) if own.as_str() == head.variation() => own.clone(),
            _ => VariationId::new(head.variation()).map_err(|error| damaged(&error.to_string()))?,
        };
        let sequence = head.sequence;
        entries.push(Entry { sequence, variation, line });
        next = next.next();
    }
    if entries.last().map(|entry| entry.sequence) != Some(group.last) {
        return Err(damaged("it ends elsewhere"));
    }
    Ok(entries)
}

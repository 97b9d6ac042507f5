// SPDX-License-Identifier: GPL-2.0
/*
 * Images of memory as a source of pages.  What is urgent is answered first.
 */
#include <errno.h>
#include <string.h>

#include "crc32c.h"
#include "file.h"
#include "image.h"

void image_init(struct image *image, int fd, u64 data_offset, u64 mem_size, const void *crcs)
{
	*image = (struct image){
		.fd = fd,
		.data_offset = data_offset,
		.layout = { .size = mem_size },
		.crcs = crcs,
	};
}

bool page_is_zero(const void *page)
{
	const u64 *p = page;

	return !*p && !memcmp(p, p + 1, PAGE_SIZE - sizeof(*p));
}

/* Nothing but the file says what its bytes are: they may be those of another size. */
static int read_pages(const struct image *image, u64 offset, void *to, u64 len)
{
	int err = file_read(image->fd, to, len, image->data_offset + offset);

	return err ? kuf_error(err,
			       "reading saved memory at offset 0x%llx: was the file cut off, is its disk in order?",
			       (unsigned long long)offset) : 0;
}

static int check_page(const struct image *image, u64 offset, const void *page)
{
	u32 crc;

	memcpy(&crc, (const u8 *)image->crcs + offset / PAGE_SIZE * sizeof(crc), sizeof(crc));
	if (crc32c(0, page, PAGE_SIZE) == crc)
		return 0;
	return kuf_error(-EBADMSG,
			 "the saved page at offset 0x%llx is damaged (CRC32C): use another copy",
			 (unsigned long long)offset);
}

int image_read_page(const struct image *image, u64 offset, void *page)
{
	int err = read_pages(image, offset, page, PAGE_SIZE);

	return err || !image->crcs ? err : check_page(image, offset, page);
}

static int image_request(void *source, const struct kuf_request *request)
{
	struct image *image = source;
	bool urgent = request->flags & KUF_REQUEST_URGENT;
	struct image_queue *q = urgent ? &image->urgent : &image->background;
	struct image_request *last = &q->requests[(q->first + q->nr - 1) % IMAGE_QUEUE];

	if (mem_offset(&image->layout, request->gpa, request->len) < 0)
		return -ERANGE;
	/* Or else what is asked for by the page is read by the page. */
	if (!urgent && q->nr && last->gpa + last->len == request->gpa) {
		last->len += request->len;
		return 0;
	}
	if (q->nr == IMAGE_QUEUE)
		return -EAGAIN;
	q->requests[(q->first + q->nr++) % IMAGE_QUEUE] = (struct image_request){
		.gpa = request->gpa,
		.len = request->len,
	};
	return 0;
}

/* As much as fits from @offset on; what was read for another request may do. */
static int fill_buffer(struct image *image, u64 offset, u64 len)
{
	int err;

	if (offset >= image->buffered && offset - image->buffered < image->buffered_len)
		return 0;
	image->buffered_len = 0;
	if (len > IMAGE_BUFFER)
		len = IMAGE_BUFFER;
	err = read_pages(image, offset, image->buffer, len);
	if (err)
		return err;
	image->buffered = offset;
	image->buffered_len = len;
	return 0;
}

/* The first pages of a request that are alike: zeroes, or not. */
static void reply_pages(struct image *image, u64 offset, u64 len, struct kuf_reply *reply)
{
	const u8 *data = image->buffer + (offset - image->buffered);
	u64 there = image->buffered + image->buffered_len - offset;
	bool zero = page_is_zero(data);

	if (len > there)
		len = there;
	reply->type = zero ? KUF_REPLY_ZERO : KUF_REPLY_DATA;
	reply->data = data;
	for (reply->len = PAGE_SIZE; reply->len < len; reply->len += PAGE_SIZE) {
		if (page_is_zero(data + reply->len) != zero)
			break;
	}
}

static int image_receive(void *source, struct kuf_reply *reply)
{
	struct image *image = source;
	struct image_queue *q = image->urgent.nr ? &image->urgent : &image->background;
	struct image_request *r = &q->requests[q->first];
	int64_t offset;
	int err;

	if (!q->nr)
		return -EAGAIN;
	offset = mem_offset(&image->layout, r->gpa, r->len);
	reply->gpa = r->gpa;
	reply->as_id = 0;
	err = fill_buffer(image, offset, r->len);
	if (err) {
		reply->type = KUF_REPLY_FAILED;
		reply->error = err;
		reply->len = r->len;
	} else {
		reply_pages(image, offset, r->len, reply);
	}
	r->gpa += reply->len;
	r->len -= reply->len;
	if (!r->len) {
		q->first = (q->first + 1) % IMAGE_QUEUE;
		q->nr--;
	}
	return 0;
}

static int image_pollfds(void *source, struct pollfd *fds, unsigned int nr, unsigned int *used,
			 int *timeout_ms)
{
	struct image *image = source;

	/* Files are always ready. */
	if (image->urgent.nr || image->background.nr)
		*timeout_ms = 0;
	return 0;
}

static int image_fetch(void *source, const struct kuf_request *request, void *to)
{
	struct image *image = source;
	int64_t offset = mem_offset(&image->layout, request->gpa, request->len);

	return offset < 0 ? -ERANGE : read_pages(image, offset, to, request->len);
}

static int image_verify(void *source, const struct kuf_request *page, const void *content)
{
	struct image *image = source;
	int64_t offset = mem_offset(&image->layout, page->gpa, page->len);

	return offset < 0 ? -ERANGE : check_page(image, offset, content);
}

#define IMAGE_OPS				\
	.size = sizeof(struct kuf_source_ops),	\
	.request = image_request,		\
	.receive = image_receive,		\
	.pollfds = image_pollfds,		\
	.fetch = image_fetch

static const struct kuf_source_ops plain_ops = { IMAGE_OPS };
static const struct kuf_source_ops checked_ops = { IMAGE_OPS, .verify = image_verify };

const struct kuf_source_ops *image_ops(const struct image *image)
{
	return image->crcs ? &checked_ops : &plain_ops;
}
